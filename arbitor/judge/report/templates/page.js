"use strict";
(() => {
  const rows = Array.from(document.querySelectorAll("#all tbody tr"));
  const form = document.getElementById("filter");
  const [text, kind] = [form.elements.text, form.elements.verdict];
  const all = document.getElementById("all");
  const shown = document.getElementById("shown");
  let words = null; // of every row, made when first needed

  function filter() {
    words ??= rows.map((row) => row.textContent.toLowerCase());
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, index) => {
      const verdict = row.cells[0].textContent.trim();
      const named = wanted.every((word) => words[index].includes(word));
      const fits = named && (!kind.value || verdict === kind.value);
      row.hidden = !fits;
      count += fits;
    });
    shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} tests`;
  }

  // #filter=pack tail&verdict=failed filters; #case-3 opens the case
  function follow() {
    const hash = location.hash.slice(1);
    if (/^(filter|verdict)=/.test(hash)) {
      const asked = new URLSearchParams(hash);
      text.value = asked.get("filter") ?? "";
      kind.value = asked.get("verdict") ?? "";
      all.open = true;
      filter();
      document.getElementById("tests").scrollIntoView();
    }
    const target = hash && document.getElementById(hash);
    if (target instanceof HTMLDetailsElement) target.open = true;
  }

  function copyable(code) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // to be copied by hand
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.after(button);
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { all.open = true; filter(); });
  document.querySelectorAll(".command code").forEach(copyable);
  document.querySelectorAll("a[data-verdict]").forEach((link) => {
    link.href = `#verdict=${link.dataset.verdict}`;
  });
  addEventListener("keydown", (event) => {
    const writing = document.activeElement.matches("input, select");
    if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey || writing) return;
    event.preventDefault();
    text.focus();
  });
  addEventListener("beforeprint", () => {
    document.querySelectorAll(".case").forEach((found) => { found.open = true; });
  });
  addEventListener("hashchange", follow);
  filter();
  follow();
  document.documentElement.dataset.ready = "true";
})();
