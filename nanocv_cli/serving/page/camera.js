// The camera: what it sees until a picture is taken, which is then tried like a file.

const QUALITY = 0.92; // of the JPEG file that a picture becomes

/** @param {string} id @returns {HTMLElement} */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const viewfinder = /** @type {HTMLVideoElement} */ (at("viewfinder"));
let closed = 0; // how often: what was asked for before the last time is nobody's any more

/**
 * Lets people take pictures, where their browser lends a camera to this page.
 * @param {(picture: Blob | null) => void} taken
 * @param {(why: string) => void} failed
 */
export function offerCamera(taken, failed) {
  at("open-camera").addEventListener("click", () => openCamera(failed));
  at("close-camera").addEventListener("click", () => {
    closeCamera();
    at("open-camera").focus();
  });
  at("shoot").addEventListener("click", () => shoot(taken));
  if (!navigator.mediaDevices?.getUserMedia) {
    /** @type {HTMLButtonElement} */ (at("open-camera")).disabled = true;
    at("camera-note").textContent = "Browsers lend the camera to pages of https and of localhost only.";
  }
}

export function closeCamera() {
  closed += 1;
  stop(viewfinder.srcObject);
  viewfinder.srcObject = null;
  at("camera").hidden = true;
}

/** @param {MediaProvider | null} stream */
function stop(stream) {
  if (stream instanceof MediaStream) for (const track of stream.getTracks()) track.stop();
}

/** @param {(why: string) => void} failed */
async function openCamera(failed) {
  closeCamera(); // a stream that another one replaces would go on, and nobody could see it
  const own = closed;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (own !== closed) return stop(stream);
    viewfinder.srcObject = stream;
    await viewfinder.play();
  } catch (error) {
    if (own !== closed) return; // whoever closed it does not wait for it
    closeCamera();
    return failed(`The camera cannot be used: ${error instanceof Error ? error.message : error}`);
  }
  if (own !== closed) return;
  at("camera").hidden = false;
  at("shoot").focus();
}

/** @param {(picture: Blob | null) => void} taken */
function shoot(taken) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [viewfinder.videoWidth, viewfinder.videoHeight];
  canvas.getContext("2d")?.drawImage(viewfinder, 0, 0);
  closeCamera();
  at("open-camera").focus();
  canvas.toBlob(taken, "image/jpeg", QUALITY);
}
