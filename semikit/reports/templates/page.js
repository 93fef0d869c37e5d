"use strict";
(() => {
  const gallery = document.querySelector(".gallery");
  if (!gallery) return;
  const FIRST = gallery.classList.contains("maps") ? 8 : 24;
  const form = document.querySelector(".controls");
  const more = document.getElementById("more");
  const cards = [...gallery.children].map((node) => ({
    node,
    own: node.querySelector(".own"),
    classes: new Map(node.dataset.classes.trim().split(" ").filter(Boolean).map((pair) => pair.split(":"))),
  }));
  let limit = FIRST;

  // What is shown stands in the address, so that a link keeps it.
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const name of ["order", "class"]) {
    const options = form.elements[name];
    const known = name === "order" ? [...options].map((one) => one.value) : [...options.options].map((one) => one.value);
    if (known.includes(asked.get(name))) options.value = asked.get(name);
  }

  function show() {
    const order = form.elements.order.value;
    const chosen = form.elements.class.value;
    const place = (card) =>
      order === "worst" && chosen ? Number(card.classes.get(chosen)) : Number(card.node.dataset[order]);
    const found = cards.filter((card) => !chosen || card.classes.has(chosen)).sort((a, b) => place(a) - place(b));
    for (const card of cards) card.node.hidden = true;
    found.forEach((card, number) => {
      card.node.hidden = number >= limit;
      gallery.append(card.node);
      if (card.own) {
        const name = form.elements.class.selectedOptions[0].text;
        card.own.textContent = chosen ? `· ${name} ${(100 * card.classes.get(chosen)).toFixed(1)}` : "";
      }
    });
    const shown = Math.min(limit, found.length);
    form.querySelector("output").textContent = `${shown} of ${found.length} images`;
    more.hidden = shown === found.length;
  }

  form.addEventListener("change", () => {
    limit = FIRST;
    const state = new URLSearchParams({ order: form.elements.order.value, class: form.elements.class.value });
    history.replaceState(null, "", `#${state}`);
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    limit += 2 * FIRST;
    show();
  });
  gallery.addEventListener("input", (event) => {
    event.target.previousElementSibling.style.setProperty("--at", `${event.target.value}%`);
  });
  show();
})();
