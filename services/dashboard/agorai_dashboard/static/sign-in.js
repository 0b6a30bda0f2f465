// Signs in with the browser's wallet, where there is one; the page's forms do without this.
"use strict";

const offer = document.querySelector("[data-wallet]");
const trouble = document.querySelector("[data-trouble]");
const proof = document.querySelector("[data-wallet-proof]");

const hex = (text) =>
  "0x" + Array.from(new TextEncoder().encode(text), (byte) => byte.toString(16).padStart(2, "0")).join("");

async function signIn(wallet) {
  const [account] = await wallet.request({ method: "eth_requestAccounts" });
  const answer = await fetch(`/sign-in/message?address=${encodeURIComponent(account)}`);
  const asked = await answer.json();
  if (!answer.ok) throw new Error(`${asked.detail} ${asked.remedy}`);
  const signature = await wallet.request({ method: "personal_sign", params: [hex(asked.message), account] });
  proof.elements.message.value = asked.message;
  proof.elements.signature.value = signature;
  proof.submit();
}

function offerWallet() {
  if (!window.ethereum || !offer.hidden) return;
  offer.hidden = false;
  offer.querySelector("button").addEventListener("click", async (event) => {
    event.target.disabled = true;
    trouble.hidden = true;
    try {
      await signIn(window.ethereum);
    } catch (error) {
      trouble.textContent = `The wallet did not sign: ${error.message || error}`;
      trouble.hidden = false;
    } finally {
      event.target.disabled = false;
    }
  });
}

offerWallet();
window.addEventListener("ethereum#initialized", offerWallet, { once: true });
