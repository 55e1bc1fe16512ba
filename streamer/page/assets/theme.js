// Sets the colours that were chosen before anything is drawn. Loaded before the style sheet; page.js offers the choice.
try {
  const chosen = localStorage.getItem("streamer-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage may be forbidden: the system's colours then
}
