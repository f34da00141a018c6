"""Looking through a dataset: marked images with their masks, conversations and rejects, in a browser.

`records` reads a dataset, `server` shows all of it, `static` writes some of it into one page that needs no server.
The page itself (page.html, page.css and the scripts) is the same for both.
"""
