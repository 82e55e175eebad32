"""From input to record: structure files, tables, folders, and what is compared before a structure is believed."""
