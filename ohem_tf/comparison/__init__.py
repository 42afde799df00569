"""Methods against each other on anyone's data: the runs, their statistics, and the page."""
