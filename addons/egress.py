"""`mitmdump -s addons/egress.py --set egress_config=FILE`: the gateway's policy inside a stock mitmproxy.

Imports and the list of addons, nothing else: mitmproxy loads this file in a way of its own.
"""

from addons.standalone import Standalone

addons = [Standalone()]
