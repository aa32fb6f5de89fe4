import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findChromium } from "./chromium-path.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Sets up what a command needs and says nothing when all is there: the npm packages always, the rest when asked for.
 * Everything it prints goes to stderr. Where something cannot be installed from here, it says what to install and ends
 * the process with code 1.
 *
 * @param {object} needs
 * @param {boolean} [needs.vulkan] a Vulkan driver, through which Deno reaches a GPU on Linux
 * @param {boolean} [needs.chromium] a Chromium for puppeteer
 * @param {string} [needs.folder] where package.json is; the project's root if left out
 */
export function prepare({ vulkan = false, chromium = false, folder = root } = {}) {
  if (!packagesAreCurrent(folder)) installPackages(folder);
  const missing = [
    ...(vulkan && process.platform === "linux" && !hasVulkanDriver() ? ["mesa-vulkan-drivers"] : []),
    ...(chromium && !hasChromium() ? ["chromium"] : []),
  ];
  if (missing.length > 0) installSystemPackages(missing);
}

/** True when node_modules holds what package-lock.json says; packages for other platforms are allowed to be absent. */
function packagesAreCurrent(folder) {
  const lock = readPackages(join(folder, "package-lock.json"));
  const installed = readPackages(join(folder, "node_modules", ".package-lock.json"));
  if (!lock || !installed) return false;
  const wanted = Object.entries(lock).filter(([path]) => path !== "");
  return wanted.every(([path, { version, integrity, optional, devOptional }]) => {
    const present = installed[path];
    if (!present) return optional || devOptional;
    return present.version === version && present.integrity === integrity;
  });
}

const readPackages = (path) => existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).packages : undefined;

function installPackages(folder) {
  const windows = process.platform === "win32";
  say("Installing npm packages (npm ci, once) ...");
  const { status } = spawnSync("npm", ["ci", "--loglevel=error", "--no-fund", "--no-audit"], {
    cwd: folder,
    stdio: ["ignore", 2, 2],
    shell: windows,
  });
  if (status !== 0) fail(`npm ci failed in ${folder}; its message is above.`);
}

/** A driver file, not a driver folder: the Vulkan loader alone leaves empty folders. */
function hasVulkanDriver() {
  if (process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES) return true;
  const dataHome = process.env.XDG_DATA_HOME ?? join(homedir(), ".local", "share");
  const shares = (process.env.XDG_DATA_DIRS ?? "/usr/local/share:/usr/share").split(":");
  return ["/etc", "/run/opengl-driver/share", "/usr/local/share", "/usr/share", dataHome, ...shares]
    .map((share) => join(share, "vulkan", "icd.d"))
    .some((directory) => existsSync(directory) && readdirSync(directory).some((name) => name.endsWith(".json")));
}

/** One of the machine, or one that puppeteer has downloaded. */
const hasChromium = () =>
  findChromium() !== undefined ||
  existsSync(join(process.env.PUPPETEER_CACHE_DIR ?? join(homedir(), ".cache", "puppeteer"), "chrome"));

function installSystemPackages(names) {
  if (!isDebian() || process.getuid?.() !== 0) fail(instructions(names));
  say(`Installing ${names.join(" and ")} with apt-get (once, about a minute) ...`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  let output = "";
  const apt = (...args) => {
    const { status, stdout, stderr } = spawnSync("apt-get", ["-qq", "-o=Dpkg::Use-Pty=0", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
      env,
    });
    output = `${stdout}${stderr}`;
    return status === 0;
  };
  const install = () => apt("install", "-y", "--no-install-recommends", ...names);
  // Package lists of a fresh image are absent or old, hence the second attempt.
  if (!install() && !(apt("update") && install())) fail(`${output}${instructions(names)}`);
}

const isDebian = () =>
  existsSync("/etc/os-release") && /^ID(_LIKE)?=.*debian/m.test(readFileSync("/etc/os-release", "utf8"));

const hints = {
  "mesa-vulkan-drivers": "a Vulkan driver: on Debian or Ubuntu `sudo apt-get install mesa-vulkan-drivers`",
  chromium:
    "Chromium or Chrome: on Debian `sudo apt-get install chromium`, elsewhere `npx puppeteer browsers install " +
    "chrome`, or set PUPPETEER_EXECUTABLE_PATH",
};

const instructions = (names) => `Please install ${names.map((name) => hints[name]).join("; and ")}.`;

const say = (line) => console.error(line);

function fail(line) {
  say(line);
  process.exit(1);
}
