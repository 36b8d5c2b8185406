"""What strangers may write where a page shows it: markup that would run, writing that would mislead, paths that lead out.

TEXTS stand in titles, names, reasons, prompts; PATHS in an address.
"""

from __future__ import annotations

_ACT = "window.ran=1"
MARKUP = (
    f"<script>{_ACT}</script>", f"</script><script>{_ACT}</script>", f"<ScRiPt>{_ACT}</sCrIpT>", f"<script/x>{_ACT}</script>",
    f"<script\n>{_ACT}</script>", f"<<script>{_ACT}//<</script>", "<script src=//x.example/a.js></script>", "<script src=data:,window.ran=1>",
    f"<img src=x onerror={_ACT}>", f'<img src="x" onerror="{_ACT}">', f"<img/src/onerror={_ACT}>", f"<IMG SRC=x OnErRoR={_ACT}>",
    f"<img src=x:x onerror\n=\n{_ACT}>", f"<img src='x' onerror='{_ACT}'", f"\"><img src=x onerror={_ACT}>", f"'><img src=x onerror={_ACT}>",
    f"--><img src=x onerror={_ACT}>", f"]]><img src=x onerror={_ACT}>", f"</title><img src=x onerror={_ACT}>", f"</style><img src=x onerror={_ACT}>",
    f"</textarea><img src=x onerror={_ACT}>", f"</pre></code><img src=x onerror={_ACT}>", f"</bdi></td></tr></table><img src=x onerror={_ACT}>",
    f"<svg onload={_ACT}>", f"<svg/onload={_ACT}>", f"<svg><script>{_ACT}</script></svg>", f"<svg><a xlink:href='javascript:{_ACT}'><text>x</text></a></svg>",
    f"<svg><animate onbegin={_ACT} attributeName=x>", f"<svg><use href='data:image/svg+xml,<svg onload={_ACT}/>'/></svg>", f"<math><a href='javascript:{_ACT}'>x</a></math>",
    f"<body onload={_ACT}>", f"<iframe src='javascript:{_ACT}'>", f"<iframe srcdoc='<script>{_ACT}</script>'>", "<iframe src=//x.example>",
    f"<object data='javascript:{_ACT}'>", "<embed src=//x.example/a.swf>", "<base href=//x.example/>", "<link rel=stylesheet href=//x.example/a.css>",
    "<meta http-equiv=refresh content='0;url=//x.example'>", f"<meta http-equiv=refresh content='0;url=javascript:{_ACT}'>",
    f"<a href='javascript:{_ACT}'>click</a>", f"<a href='&#106;avascript:{_ACT}'>click</a>", f"<a href='java\tscript:{_ACT}'>click</a>",
    f"<a href='data:text/html,<script>{_ACT}</script>'>click</a>", f"<form action='javascript:{_ACT}'><input type=submit>", "<form action=//x.example><input name=a>",
    f"<input onfocus={_ACT} autofocus>", f"<details open ontoggle={_ACT}>", f"<video><source onerror={_ACT}>", f"<audio src=x onerror={_ACT}>",
    f"<marquee onstart={_ACT}>", f"<button popovertarget=x onclick={_ACT}>x</button>", f"<div style=\"background:url('javascript:{_ACT}')\">", "<style>@import '//x.example/a.css';</style>",
    "<style>body{background:url(//x.example/a)}</style>", f"<template><script>{_ACT}</script></template>", f"<noscript><p title='</noscript><img src=x onerror={_ACT}>'>",
    f"<!--<img src='--><img src=x onerror={_ACT}>'>", f"<![CDATA[<script>{_ACT}</script>]]>", f"<?xml version='1.0'?><script>{_ACT}</script>", f"<xss id=x tabindex=1 onfocus={_ACT}></xss>",
    f"\" onmouseover=\"{_ACT}", f"' onmouseover='{_ACT}", f"` onmouseover=`{_ACT}", f"x\" autofocus onfocus=\"{_ACT}\" y=\"", f"javascript:{_ACT}",
    "&lt;script&gt;window.ran=1&lt;/script&gt;", "&#60;script&#62;window.ran=1&#60;/script&#62;", "%3Cscript%3Ewindow.ran=1%3C/script%3E", r"\u003cscript\u003ewindow.ran=1\u003c/script\u003e",
    "+ADw-script+AD4-window.ran=1+ADw-/script+AD4-", "{{ 7 * 7 }}", "{{ config.__class__.__init__.__globals__ }}", "{% include '/etc/passwd' %}", "{# x #}{{ cycler }}", "${7*7}", "#{7*7}", "<%= 7*7 %>",
    "{{constructor.constructor('window.ran=1')()}}", "<portal src=//x.example>", "<frameset onload=window.ran=1>", "<isindex action=javascript:window.ran=1>", "<bgsound src=//x.example>",
)  # fmt: skip
WRITING = (
    "\u202egnp.exe", "\u202dabc\u202c", "a\u2066b\u2069", "\u2067right\u2069", "\u200fright to left", "\u061c", "\u2028line", "\u2029paragraph", "\ufeffmark", "a\u200bb\u200cc\u200dd",
    "\u00ad" * 40, "\U000e0041\U000e0042", "\x1b[2J\x1b]0;owned\x07", "\x00\x01\x02\x7f\x9b31m", "\r\nSet-Cookie: a=b", "a\rb", "Z\u0351\u0321\u0334" * 60, "\u0301" * 300,
    "\ufdfd" * 20, "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 9, "\ud800", "\udfff lone", "\uffff", "\ufffe", "m\u0430in", "\uff1cscript\uff1e", "\u2039script\u203a", "W" * 3_000, "\u3000" * 200, "\t" * 50,
    "=cmd|' /C calc'!A0", "@everyone fixes #1", "[click](javascript:window.ran=1)", "\\", "'", '"', "<", ">", "&", "`", "\u2215etc\u2215passwd",
)  # fmt: skip
TEXTS = MARKUP + WRITING
_OUT = (
    "..", "../", "../../../../etc/passwd", "/etc/passwd", "//etc/passwd", "....//....//etc/passwd", "..\\..\\windows\\win.ini", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/secret", "%2e%2e%2f%2e%2e%2fsecret",
    "%252e%252e%252fsecret", "..%c0%af..%c0%afsecret", "..%00/secret", "secret%00.html", ".git/config", "smol/.git/config", "smol.git/config", "smol/../secret", "smol/../../secret", "smol/pulls/../../secret",
    "smol/pulls/1/../../../secret", "smol/pulls/-1", "smol/pulls/0", "smol/pulls/999999999999999999999999", "smol/pulls/1.5", "smol/pulls/%31", "smol/pulls/1/b3:..", "smol/pulls/1/..%2f..%2fsecret", "smol/pulls/1/../change.svg",
    "smol/pulls/1/x/change.svg", "smol/releases/..", "smol/releases/..%2f..", "smol/releases/%2e%2e%2f%2e%2e%2fsecret", "smol/releases/1.0%0d%0aSet-Cookie:a=b", "smol/releases/<script>", "smol/releases/" + "a" * 5_000,
    "smol%2f..%2fsecret", "smol//pulls", "smol/", "SMOL", "smol.git", "~root", "C:/secret", "file:///etc/passwd", "http://x.example/", "//x.example/", "/x.example/", "\\x.example", "static/../app.py", "static/..%2fapp.py",
    "static/%2e%2e/secret", "static/page.css/..", "static/page.css%00", "%ff%fe", "%", "%zz", "\u202e", "a" * 9_000, "smol/pulls?state=../x", "smol/pulls?page=-1", "smol/pulls?page=9999999999", "smol/pulls?page=%00", "?page=1e9", "smol/pulls?state=%3Cscript%3E",
)  # fmt: skip
PATHS = _OUT
