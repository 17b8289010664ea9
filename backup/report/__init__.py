"""What a drill leaves for people and auditors: signed evidence (JSON) and a page."""
