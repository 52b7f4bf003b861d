"""A voice drives a photo: sound -> phones and their times -> the movement of a face that says them."""
