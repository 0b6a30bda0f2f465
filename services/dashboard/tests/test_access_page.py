"""Signing in as a person does: in a real Chromium, with a wallet and without one."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from playwright.async_api import Browser, Page, expect

from agorai_dashboard.access import Policy
from agorai_shared.types import Address

from .guarded import STRANGER, VIEWER, Site, signed, site
from .pages_world import browsing

pytestmark = pytest.mark.asyncio(loop_scope="module")
WALLET = """
window.ethereum = {
  request: ({ method, params }) =>
    method === "eth_requestAccounts" ? Promise.resolve(["%s"]) : window.signInWallet(params[0]),
};
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Browser]:
    async with browsing() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded() -> AsyncGenerator[Site]:
    async with site(Policy("127.0.0.1", viewers=frozenset({Address(VIEWER.address)}))) as started:
        yield started


async def with_wallet(page: Page, account: LocalAccount) -> None:
    def sign(message: str) -> str:
        text = bytes.fromhex(message.removeprefix("0x"))
        return "0x" + bytes(account.sign_message(encode_defunct(text)).signature).hex()

    await page.expose_function("signInWallet", sign)
    await page.add_init_script(WALLET % account.address)


async def opened(
    browser: Browser, guarded: Site, account: LocalAccount | None = None
) -> tuple[Page, list[str]]:
    page = await browser.new_page(viewport={"width": 360, "height": 700})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    if account is not None:
        await with_wallet(page, account)
    await page.goto(f"{guarded.url}/api/overview")
    return page, said


async def test_a_wallet_signs_in_with_one_click(browser: Browser, guarded: Site) -> None:
    page, said = await opened(browser, guarded, VIEWER)
    await page.get_by_role("button", name="Sign with wallet").click()
    await page.wait_for_url(f"{guarded.url}/api/overview")
    assert json.loads(await page.inner_text("body"))["role"] == "viewer"
    assert said == []
    await page.close()


async def test_a_wallet_of_an_account_without_a_role_is_told_so(browser: Browser, guarded: Site) -> None:
    page, _ = await opened(browser, guarded, STRANGER)
    await page.context.clear_cookies()
    await page.goto(f"{guarded.url}/sign-in")
    await page.get_by_role("button", name="Sign with wallet").click()
    await expect(page.get_by_role("alert").first).to_contain_text("has no role")
    await page.close()


async def test_without_a_wallet_a_signature_is_pasted(browser: Browser, guarded: Site) -> None:
    page, said = await opened(browser, guarded)
    assert not await page.get_by_role("button", name="Sign with wallet").is_visible()
    await page.get_by_text("Sign a message elsewhere").click()
    await page.get_by_label("Your account").fill(VIEWER.address)
    await page.keyboard.press("Enter")
    message = await page.get_by_label("Sign this").input_value()
    await page.get_by_label("The signature").fill(signed(message, VIEWER))
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url(f"{guarded.url}/api/overview")
    assert said == []
    await page.close()
