"""The farm: units of work, what workers say, the client, a whole farm on one machine."""
