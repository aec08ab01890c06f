"""Fails when a link of the site leads nowhere: `links.py DIRECTORY`."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
        self.links |= {attributes[name] for name in ("href", "src") if attributes.get(name)}


site = Path(sys.argv[1]).resolve()
pages = {path: Page(path) for path in site.rglob("*.html")}
broken = []
for path, page in pages.items():
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or path.name in ("404.html", "toc.html"):
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        place = unquote(parts.fragment)
        if not target.exists():
            broken.append(f"{path.relative_to(site)} links to {link}: no such file")
        elif place and target in pages and place not in pages[target].places:
            broken.append(f"{path.relative_to(site)} links to {link}: no such place")
print(*sorted(broken), f"{len(pages)} pages, {len(broken)} broken links", sep="\n")
sys.exit(bool(broken))
