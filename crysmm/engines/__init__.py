"""Message passing, done by interchangeable engines that give the same numbers.

``blocked`` (torch alone, the default) works on dense views of edges grouped by degree; ``dgl`` uses DGL's
kernels and is the reference.
"""
