// Draws the figures with plotly in the colors of the page, and updates them when the colors change.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const options = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "resetScale2d"]] };

  function pageColors() {
    const probe = document.createElement("i");
    document.body.append(probe);
    const color = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const colors = { ink: color("ink"), muted: color("muted"), line: color("line"), card: color("card") };
    probe.remove();
    return colors;
  }

  function themed(layout) {
    const { ink, muted, line, card } = pageColors();
    const changes = {
      "font.color": ink,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      "hoverlabel.bgcolor": card,
      "hoverlabel.bordercolor": muted,
      "hoverlabel.font.color": ink,
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": muted,
      "modebar.activecolor": ink,
    };
    for (const axis of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      Object.assign(changes, { [`${axis}.gridcolor`]: line, [`${axis}.linecolor`]: line, [`${axis}.tickcolor`]: line });
    }
    return changes;
  }

  async function draw(place) {
    const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
    layout.font = { family: getComputedStyle(document.body).fontFamily, size: 13 };
    layout.dragmode = touch ? false : "zoom"; // dragging a finger over a figure scrolls the page
    await Plotly.newPlot(place, data, layout, options);
    await Plotly.relayout(place, themed(layout));
  }

  const places = [...document.querySelectorAll(".plot")];
  const recolor = () => places.forEach((place) => Plotly.relayout(place, themed(place.layout)));

  document.querySelector("#theme").addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    recolor();
  });
  dark.addEventListener("change", recolor);
  places.reduce((before, place) => before.then(() => draw(place)), Promise.resolve());
})();
