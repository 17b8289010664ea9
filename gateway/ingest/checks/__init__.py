"""What a paper passes before it is accepted: rules on its name and size, its type, its archives, the virus scan, manifests, its class.

`rules` decides by the settings alone (pure); `inspection` leads one paper through; `pool` and `worker` look into content in processes of their
own, with `kinds` and `archives`; `scanner` is the port of `clamd` and `command`, `standby` knows whether it can be relied on; `manifests` reads
what a client says of its papers.
"""
