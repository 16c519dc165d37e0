"""Several processes that train one net: how they find each other, agree, and end together."""
