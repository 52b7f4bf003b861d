"""From files of people to the batches of a device: clips, animated stills, shards, packs, episodes."""
