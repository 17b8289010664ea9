"""The page for ops: read-only, without scripts, on loopback or behind a proxy with a token.

`facts` reads, `readings` seldom enough, `application` answers requests, `visits` are recorded, `role` serves.
"""

CREDENTIAL = "web.token"  # the file with the token, where the service manager gives it
