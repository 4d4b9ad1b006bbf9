// The viewer of the people of a rig; the address may name a frame: #frame=120.
const scene = JSON.parse(document.getElementById("scene").textContent);
const box = document.getElementById("viewer");
if (box && scene.frames) {
  const viewer = createViewer(box, 2.4, () => {});
  const fromAddress = () => {
    const match = /^#frame=(\d+)$/.exec(location.hash);
    return match ? Math.floor((Number(match[1]) - scene.first_frame) / scene.stride) : 0;
  };
  viewer.load(scene, fromAddress());
  window.addEventListener("hashchange", () => viewer.jump(fromAddress()));
}
