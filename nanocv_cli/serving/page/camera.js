// The camera: what it sees until a picture is taken, which is then tried like a file.

const QUALITY = 0.92; // of the JPEG file that a picture becomes

/** @param {string} id @returns {HTMLElement} */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const viewfinder = /** @type {HTMLVideoElement} */ (at("viewfinder"));

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
  const stream = viewfinder.srcObject;
  if (stream instanceof MediaStream) for (const track of stream.getTracks()) track.stop();
  viewfinder.srcObject = null;
  at("camera").hidden = true;
}

/** @param {(why: string) => void} failed */
async function openCamera(failed) {
  try {
    viewfinder.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await viewfinder.play();
  } catch (error) {
    closeCamera();
    return failed(`The camera cannot be used: ${error instanceof Error ? error.message : error}`);
  }
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
