// Draws every element of class "structure" when it comes into view: browsers bear few WebGL canvases at a time.
(() => {
  const GREY = "#727d8b"; // seen on white and on black

  function draw(place) {
    const drawing = JSON.parse(place.dataset.structure);
    const viewer = $3Dmol.createViewer(place, {
      backgroundAlpha: 0,
      disableFog: true,
      orthographic: true,
      antialias: true,
    });
    if (!viewer) {
      place.textContent = "This browser offers no WebGL, which structures are drawn with.";
      return;
    }
    addAtoms(viewer, drawing);
    addCell(viewer, drawing);
    viewer.rotate(-22, "y");
    viewer.rotate(14, "x");
    viewer.zoomTo();
    viewer.zoom(1.4);
    viewer.render();
    place.addEventListener("keydown", (event) => turnByKey(viewer, event));
    // A wheel over the picture scrolls the page, as everywhere else; with Ctrl it zooms.
    place.addEventListener("wheel", (event) => event.ctrlKey || event.stopPropagation(), { capture: true });
  }

  function addAtoms(viewer, { atoms, elements, bonds }) {
    const model = viewer.addModel();
    model.addAtoms(
      atoms.map(([x, y, z, kind], index) => {
        const [elem, color, radius] = elements[kind];
        return { elem, color, x, y, z, index, serial: index, style: { sphere: { radius, color } } };
      })
    );
    const position = ([x, y, z]) => ({ x, y, z });
    for (const [first, second] of bonds) {
      const [start, end] = [atoms[first], atoms[second]];
      const middle = position([0, 1, 2].map((axis) => (start[axis] + end[axis]) / 2));
      for (const atom of [start, end]) {
        const color = elements[atom[3]][1];
        viewer.addCylinder({ start: position(atom), end: middle, radius: 0.09, color, fromCap: 0, toCap: 0 });
      }
    }
  }

  function addCell(viewer, { cell: vectors, elements }) {
    const corner = (...steps) => {
      const [x, y, z] = [0, 1, 2].map((axis) => steps.reduce((sum, step, i) => sum + step * vectors[i][axis], 0));
      return { x, y, z };
    };
    const lengths = vectors.map((vector) => Math.hypot(...vector));
    const radius = 0.02 + 0.002 * Math.max(...lengths);
    const edge = (start, end) =>
      viewer.addCylinder({ start: corner(...start), end: corner(...end), radius, color: GREY, fromCap: 2, toCap: 2 });
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      edge([0, i, j], [1, i, j]);
      edge([i, 0, j], [i, 1, j]);
      edge([i, j, 0], [i, j, 1]);
    }
    const style = { showBackground: false, fontColor: GREY, fontSize: 16, bold: true, alignment: "center" };
    const beyond = 0.7 + Math.max(...elements.map(([, , size]) => size)); // clear of an atom at the corner
    ["a", "b", "c"].forEach((name, i) => {
      const end = [0, 0, 0].map((_, axis) => (axis === i ? 1 + beyond / lengths[i] : 0));
      viewer.addLabel(name, { ...style, position: corner(...end) });
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
