"""MineCLIP: what STEVE-1's goals are made with, from sixteen frames or from a sentence."""
