"""A client's jail: virtual paths, what may be done where, the pointers that papers go by, and the tree of names on the disk.

Content never passes here: a name is a pointer to a paper in the spool or the vault.
"""

from gateway.jail.entries import Entry, Listing
from gateway.jail.paths import ROOT, VirtualPath, parse, path_of
from gateway.jail.pointers import Pointer, PointerDamaged
from gateway.jail.refused import Code, Refused
from gateway.jail.tree import Tree

__all__ = ["ROOT", "Code", "Entry", "Listing", "Pointer", "PointerDamaged", "Refused", "Tree", "VirtualPath", "parse", "path_of"]
