"""ccstore: guest kernels and immutable guest images as content-addressed derivations."""
