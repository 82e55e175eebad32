"""From a crystal to its graph: neighbour lists, element features, and DGL graphs for those who want them."""
