"""Who holds which key, and how one is handed out.

`master` finds the master secret, `keyring` makes and opens what is sealed to it, `secrets` gives each role what it needs, `keyd` is the
agent that opens one paper's key at a time (`protocol` its messages, `service` its decisions, `limits` its rate limits), `client` the ways
to ask it, `kit` the recovery kit. Format of sealed files: age v1, see gateway.age.
"""
