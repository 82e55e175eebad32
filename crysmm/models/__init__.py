"""The backbones, interchangeable through one interface and one table."""
