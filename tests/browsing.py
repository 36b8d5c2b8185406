"""A browser without scripts: cookies are kept, redirects followed, a form is sent as the page has it."""

from __future__ import annotations

import html
import http.cookiejar
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from functools import cache

from souq.hub.accounts import passwords
from souq.hub.accounts.store import insert_account
from tests.hubs import Answer

PASSWORD = "correct horse battery"

FORM = re.compile(r'<form method="post" action="([^"]+)">(.*?)</form>', re.S)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


class Browser:
    def __init__(self, url):
        self.url, self.jar = url, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def ask(self, path, data=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            answer = self._opener.open(urllib.request.Request(f"{self.url}{path}", data, headers), timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Answer(answer.status, dict(answer.headers.items()), answer.read())

    def hidden(self, page, action):
        """What a page's form holds that nobody types."""
        forms = dict(FORM.findall(self.ask(page).body.decode()))
        return {name: html.unescape(value) for name, value in HIDDEN.findall(forms[action])}

    def send(self, page, action, headers=None, **fields):
        """Fill a form of a page and send it."""
        return self.post(action, self.hidden(page, action) | fields, **(headers or {}))

    def post(self, action, fields, **headers):
        headers = {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded"} | headers
        return self.ask(action, urllib.parse.urlencode(fields).encode(), **headers)

    def cookie(self, name="souq-session"):
        return next((each.value for each in self.jar if each.name == name), "")

    def sign_in(self, name, password):
        return self.send("/login", "/login", name=name, password=password)


def signature(text, key, namespace="souq-hub"):
    """What ssh-keygen prints for a text."""
    words = ["ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(key)]
    return subprocess.run(words, input=text.encode(), capture_output=True, check=True).stdout.decode()


@cache
def _kept():
    return passwords.hashed(PASSWORD)  # it is made to take long, so once


def opened(accounts, *names):
    """Accounts whose password is PASSWORD."""
    with accounts.database.writing() as connection:
        for name in names:
            insert_account(connection, name, "", _kept())
