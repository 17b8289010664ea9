"""What is known about clients, people, papers and runs.

`names` checks names, `rows` are the frozen values that go in and out, `tables` the tables, `migrations/` their history, `catalog` the only
door to the database. Content is never here; names, sizes and hashes are, in clear.
"""

from gateway.catalog.catalog import Catalog
from gateway.catalog.errors import CatalogError
from gateway.catalog.names import check_name
from gateway.catalog.rows import Certificate, Client, ClientKey, Destruction, Hold, NewPaper, Paper, Person, PublicKey, Repository, Run

__all__ = [
    "Catalog",
    "CatalogError",
    "Certificate",
    "Client",
    "ClientKey",
    "Destruction",
    "Hold",
    "NewPaper",
    "Paper",
    "Person",
    "PublicKey",
    "Repository",
    "Run",
    "check_name",
]
