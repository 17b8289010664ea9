"""Destroying a client: its keys go from here and from every key repository, and that nothing opens its papers any more is proven."""
