"""Files: photos, films, sound, cameras; what is marked in them, and what is put behind and around a head."""
