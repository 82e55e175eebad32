// Draws each element of class "structure" when it scrolls into view, since browsers limit the number of WebGL canvases.
(() => {
  const GREY = "#727d8b"; // legible on white and on black
  const BOND_RADIUS = 0.09; // Angstrom
  const MARGIN = 44; // pixels, both sides added up
  const LARGEST_SCALE = 36; // pixels per Angstrom

  function corner(cell, ...steps) {
    const [x, y, z] = [0, 1, 2].map((axis) => steps.reduce((sum, step, i) => sum + step * cell[i][axis], 0));
    return { x, y, z };
  }

  function draw(place) {
    const drawing = JSON.parse(place.dataset.structure);
    const viewer = $3Dmol.createViewer(place, {
      backgroundAlpha: 0,
      disableFog: true,
      orthographic: true,
      antialias: true,
    });
    if (!viewer) {
      place.textContent = "This browser does not support WebGL, which is needed to draw structures.";
      return;
    }
    addAtoms(viewer, drawing);
    addCell(viewer, drawing);
    viewer.rotate(-22, "y");
    viewer.rotate(14, "x");
    viewer.zoomTo();
    fill(viewer, place, drawing);
    viewer.render();
    place.addEventListener("keydown", (event) => turnByKey(viewer, event));
    // The wheel scrolls the page, as it does elsewhere; with Ctrl it zooms.
    place.addEventListener("wheel", (event) => event.ctrlKey || event.stopPropagation(), { capture: true });
  }

  // Zooms until atoms and cell fill the picture except for the margin, up to LARGEST_SCALE for small cells.
  function fill(viewer, place, { atoms, cell, elements }) {
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => corner(cell, bits & 1, (bits >> 1) & 1, bits >> 2));
    const points = [...atoms.map(([x, y, z]) => ({ x, y, z })), ...corners];
    const [origin, ...axes] = viewer.modelToScreen([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]].map(([x, y, z]) => ({ x, y, z })));
    const squares = axes.map(({ x, y }) => (x - origin.x) ** 2 + (y - origin.y) ** 2);
    const scale = Math.sqrt((squares[0] + squares[1] + squares[2]) / 2); // pixels per Angstrom, whatever the rotation
    const radius = (index) => (index < atoms.length ? scale * elements[atoms[index][3]][2] : 0);
    const seen = viewer.modelToScreen(points);
    const extent = (axis) =>
      Math.max(...seen.map((point, i) => point[axis] + radius(i))) - Math.min(...seen.map((point, i) => point[axis] - radius(i)));
    const fits = ["clientWidth", "clientHeight"].map((size, i) => (place[size] - MARGIN) / extent("xy"[i]));
    viewer.zoom(Math.min(...fits, LARGEST_SCALE / scale));
  }

  function addAtoms(viewer, { atoms, elements, bonds }) {
    const model = viewer.addModel();
    model.addAtoms(
      atoms.map(([x, y, z, kind], index) => {
        const [elem, color, radius] = elements[kind];
        return { elem, color, x, y, z, index, serial: index, style: { sphere: { radius, color } } };
      })
    );
    for (const [index, ...end] of bonds) {
      const [x, y, z, kind] = atoms[index];
      const color = elements[kind][1];
      const [start, middle] = [{ x, y, z }, { x: end[0], y: end[1], z: end[2] }];
      viewer.addCylinder({ start, end: middle, radius: BOND_RADIUS, color, fromCap: 0, toCap: 1 });
    }
  }

  function addCell(viewer, { cell, elements }) {
    const lengths = cell.map((vector) => Math.hypot(...vector));
    const radius = 0.02 + 0.002 * Math.max(...lengths);
    const edge = (start, end) =>
      viewer.addCylinder({
        start: corner(cell, ...start),
        end: corner(cell, ...end),
        radius,
        color: GREY,
        fromCap: 2,
        toCap: 2,
      });
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      edge([0, i, j], [1, i, j]);
      edge([i, 0, j], [i, 1, j]);
      edge([i, j, 0], [i, j, 1]);
    }
    const style = { showBackground: false, fontColor: GREY, fontSize: 16, bold: true, alignment: "center" };
    const beyond = 0.7 + Math.max(...elements.map(([, , size]) => size)); // outside of an atom at the corner
    ["a", "b", "c"].forEach((name, i) => {
      const end = [0, 0, 0].map((_, axis) => (axis === i ? 1 + beyond / lengths[i] : 0));
      viewer.addLabel(name, { ...style, position: corner(cell, ...end) });
    });
  }

  function turnByKey(viewer, event) {
    const turns = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"], ArrowDown: [10, "x"] };
    if (event.key in turns) {
      viewer.rotate(...turns[event.key]);
      event.preventDefault();
    }
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        seen.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin: "200px" });
  document.querySelectorAll(".structure").forEach((place) => seen.observe(place));
})();
