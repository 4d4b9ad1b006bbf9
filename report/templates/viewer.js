// 3D viewer of skeletons and cameras, by createViewer(element, distance, changed).load(scene, frame). World: y up, mm.
// `distance`: of the eye at the start, in reaches of the scene. `changed` is called with each frame that is drawn.
// A scene is that of report/viewer.py; its people may have `colour` and `hidden`, and `labels` may name its frames.
function createViewer(box, distance, changed) {
  const find = (selector) => box.querySelector(selector);
  const [canvas, slider, play, speed, label] = ["canvas", "input", ".play", "select", "output"].map(find);
  const pen = canvas.getContext("2d");
  const colours = ["#2f7fd6", "#e0731d", "#2a9d6f", "#c2478f", "#8a6fd1", "#b08900", "#d6453d", "#4aa3b5"];
  const eye = { yaw: 0.7, pitch: 0.35, distance: 0 };
  let scene = null, frame = 0, playing = false, started = 0, from = 0, ink = "", rule = "", waiting = false;

  // World -> eye: x right, y up, z away from the eye.
  function toEye(point) {
    const [x, y, z] = point.map((value, axis) => value - scene.centre[axis]);
    const [sin, cos, sinP, cosP] = [Math.sin(eye.yaw), Math.cos(eye.yaw), Math.sin(eye.pitch), Math.cos(eye.pitch)];
    const towards = sin * x + cos * z;
    return [cos * x - sin * z, cosP * y - sinP * towards, eye.distance - sinP * y - cosP * towards];
  }
  const focal = () => Math.min(0.9 * canvas.clientWidth, 1.3 * canvas.clientHeight);
  const toPixels = ([x, y, z]) => [canvas.clientWidth / 2 + (focal() * x) / z, canvas.clientHeight / 2 - (focal() * y) / z];
  const near = () => eye.distance / 50;

  // A line between world points, cut where it comes near the eye.
  function line(a, b, colour, width) {
    let [p, q] = [toEye(a), toEye(b)];
    if (p[2] > q[2]) [p, q] = [q, p];
    if (q[2] < near()) return;
    if (p[2] < near()) {
      const share = (near() - p[2]) / (q[2] - p[2]);
      p = p.map((value, axis) => value + share * (q[axis] - value));
    }
    Object.assign(pen, { strokeStyle: colour, lineWidth: width });
    pen.beginPath();
    pen.moveTo(...toPixels(p));
    pen.lineTo(...toPixels(q));
    pen.stroke();
  }

  function drawFloor() {
    const half = Math.min(20, Math.ceil(scene.reach / 1000));
    const [cx, cz] = [scene.centre[0], scene.centre[2]].map((value) => 1000 * Math.round(value / 1000));
    for (let k = -half; k <= half; k++) {
      line([cx + 1000 * k, scene.floor, cz - 1000 * half], [cx + 1000 * k, scene.floor, cz + 1000 * half], rule, 1);
      line([cx - 1000 * half, scene.floor, cz + 1000 * k], [cx + 1000 * half, scene.floor, cz + 1000 * k], rule, 1);
    }
  }

  function drawCameras() {
    const labels = [];
    pen.fillStyle = ink;
    for (const { name, centre, corners } of scene.cameras) {
      if (!centre || corners.includes(null)) continue;
      corners.forEach((corner, k) => {
        line(centre, corner, ink, 1);
        line(corner, corners[(k + 1) % 4], ink, 1);
      });
      if (toEye(centre)[2] < near()) continue;
      const [x, y] = toPixels(toEye(centre));
      const { width } = pen.measureText(name);
      const left = x > 0.8 * canvas.clientWidth ? x - 6 - width : x + 6; // at the right edge, left of the camera
      const isCovered = (bottom) => labels.some((one) => Math.abs(one.bottom - bottom) < 14 && left < one.right && one.left < left + width);
      const bottom = [y - 6, y + 16].find((place) => !isCovered(place)); // above or below; a label without room is left out
      if (bottom === undefined) continue;
      labels.push({ bottom, left, right: left + width });
      pen.fillText(name, left, bottom);
    }
  }

  function drawPeople() {
    const right = scene.names.map((name) => name.startsWith("right_"));
    scene.people.forEach((person, number) => {
      const points = person.frames[frame - person.start];
      if (!points || person.hidden) return;
      const colour = person.colour || colours[number % colours.length];
      for (const [a, b] of scene.edges) {
        if (points[a] && points[b]) line(points[a], points[b], colour, right[a] || right[b] ? 1.5 : 3.5);
      }
      pen.fillStyle = colour;
      for (const point of points) {
        if (!point || toEye(point)[2] < near()) continue;
        pen.beginPath();
        pen.arc(...toPixels(toEye(point)), 2, 0, 2 * Math.PI);
        pen.fill();
      }
    });
  }

  function draw() {
    waiting = false;
    if (!scene) return;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * scale));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const style = getComputedStyle(document.body);
    [ink, rule] = ["--muted", "--rule"].map((name) => style.getPropertyValue(name).trim());
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    Object.assign(pen, { font: `12px ${style.fontFamily}`, lineCap: "round" });
    drawFloor();
    drawCameras();
    drawPeople();
    const time = `${((frame * scene.stride) / scene.rate_hz).toFixed(2)} s`;
    label.textContent = scene.labels?.[frame] ?? `frame ${scene.first_frame + frame * scene.stride}, ${time}`;
    slider.value = frame;
    changed(frame);
  }
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };

  function show(next) {
    frame = Math.max(0, Math.min(scene.frames - 1, next));
    redraw();
  }
  function step(now) {
    if (!playing) return;
    const passed = ((now - started) / 1000) * Number(speed.value) * (scene.rate_hz / scene.stride);
    show((from + Math.max(0, Math.floor(passed))) % scene.frames);
    requestAnimationFrame(step);
  }
  function setPlaying(value) {
    playing = value;
    play.textContent = playing ? "Pause" : "Play";
    [started, from] = [performance.now(), frame];
    if (playing) requestAnimationFrame(step);
  }
  const jump = (next) => { setPlaying(false); show(next); };
  function turn(dx, dy) {
    eye.yaw -= dx;
    eye.pitch = Math.max(-1.5, Math.min(1.5, eye.pitch + dy));
    redraw();
  }
  function zoom(factor) {
    eye.distance = Math.max(0.05 * scene.reach, Math.min(20 * scene.reach, eye.distance * factor));
    redraw();
  }
  function load(next, first) {
    if (!scene) eye.distance = distance * next.reach;
    scene = next;
    slider.max = scene.frames - 1;
    play.disabled = slider.disabled = scene.frames < 2;
    jump(first);
  }

  const keys = {
    ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, -0.1), ArrowDown: () => turn(0, 0.1),
    "+": () => zoom(0.9), "-": () => zoom(1.1), ",": () => jump(frame - 1), ".": () => jump(frame + 1), " ": () => setPlaying(!playing),
  };
  play.addEventListener("click", () => setPlaying(!playing));
  slider.addEventListener("input", () => jump(Number(slider.value)));
  speed.addEventListener("change", () => { [started, from] = [performance.now(), frame]; });
  find(".nearer").addEventListener("click", () => zoom(0.8));
  find(".farther").addEventListener("click", () => zoom(1.25));
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) turn(event.movementX / 150, event.movementY / 150);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) / 500));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  box.hidden = false;
  return { load, jump, redraw };
}
