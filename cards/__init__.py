"""cards: how good a merged model is, may it be published, the card and the upload."""
