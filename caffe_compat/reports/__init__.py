"""One page of HTML that shows a training, or several: it holds all that it shows, and needs nothing but a browser."""
