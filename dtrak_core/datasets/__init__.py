"""Pictures and what is known of them: catalogue, decoding, built-in sets, the user's own, subsets."""
