/** Which device this is, as far as its browser tells: no guess, and nothing that a browser makes up is passed on. */

import { printable } from "./report.js";

/**
 * @param {Navigator} navigator
 * @returns {Promise<{model: string, system: string, processor: string | null}>}
 */
export async function describeDevice(navigator) {
  const told = await highEntropyValues(navigator.userAgentData);
  const agent = honest(navigator.userAgent ?? "", navigator.maxTouchPoints);
  const browser = browserOf(told.fullVersionList, agent);
  const system = systemOf(told.platform, told.platformVersion) ?? systemOfAgent(agent) ?? "unknown system";
  const mobile = navigator.userAgentData?.mobile ?? /Mobi|Android/.test(agent);
  const model = told.model || modelOfAgent(agent) || (mobile ? "phone of an unknown model" : "computer");
  const processor = [told.architecture, told.bitness && `${told.bitness} bits`].filter(Boolean).join(", ");
  return {
    model: printable(model),
    system: printable(browser ? `${system}, ${browser}` : system),
    processor: processor ? printable(processor) : null,
  };
}

/** An iPad says that it is a Mac, of which none has a touch screen. */
function honest(agent, touches) {
  return touches > 1 ? agent.replace(/\(Macintosh; Intel Mac OS X [\d_]+/, "(iPad") : agent;
}

async function highEntropyValues(data) {
  try {
    const wanted = ["architecture", "bitness", "fullVersionList", "model", "platformVersion"];
    return (await data?.getHighEntropyValues?.(wanted)) ?? {};
  } catch {
    return {}; // a browser may refuse
  }
}

function systemOf(platform, version) {
  if (!platform || platform === "Unknown") return null;
  if (platform === "Windows") return windowsOf(version);
  const [major, minor] = (version || "").split(".");
  const number = major && minor && minor !== "0" ? `${major}.${minor}` : major;
  return number ? `${platform} ${number}` : platform;
}

/** Chromium's version is that of an interface of Windows: 13 and above is Windows 11, 1 to 10 is Windows 10. */
function windowsOf(version) {
  const major = Number.parseInt(version, 10);
  return major >= 13 ? "Windows 11" : major >= 1 ? "Windows 10" : "Windows";
}

function systemOfAgent(agent) {
  const android = /Android (\d+(?:\.\d+)*)(; K\))?/.exec(agent);
  if (android) return android[2] ? "Android" : `Android ${android[1]}`; // Chrome writes "10; K" on all of them
  const ios = /(iPhone|iPad)[^)]* OS (\d+(?:_\d+)*)/.exec(agent);
  // Newer Safaris keep an old number here; that of the browser, which is theirs, stands beside it.
  if (ios) return `${ios[1] === "iPad" ? "iPadOS" : "iOS"} ${ios[2].replaceAll("_", ".")}`;
  if (/\(iPad/.test(agent)) return "iPadOS";
  return [/CrOS/, /Mac OS X/, /Windows/, /Linux/].find((each) => each.test(agent))?.source.replace("Mac OS X", "macOS");
}

/** Safari names the kind of device alone; Chrome's "K" is no model. */
function modelOfAgent(agent) {
  const apple = /\((iPhone|iPad|Macintosh)/.exec(agent);
  if (apple) return apple[1] === "Macintosh" ? "Mac" : apple[1];
  const android = /Android [^;)]*; ([^;)]+?)(?: Build\/[^;)]*)?[;)]/.exec(agent);
  return android && android[1] !== "K" && !/^(rv:|Mobile|Tablet)/.test(android[1]) ? android[1] : null;
}

const NAMES = { Edg: "Edge", EdgA: "Edge", EdgiOS: "Edge", CriOS: "Chrome", FxiOS: "Firefox", SamsungBrowser: "Samsung Internet", Version: "Safari" };

function browserOf(brands, agent) {
  const known = brands?.filter(({ brand }) => !/not.?a.?brand/i.test(brand)) ?? [];
  const own = known.find(({ brand }) => brand !== "Chromium") ?? known[0];
  if (own) return `${own.brand.replace("Google ", "").replace("HeadlessChrome", "Headless Chrome")} ${own.version.split(".")[0]}`;
  const patterns = [/(Firefox|FxiOS|CriOS|EdgiOS|EdgA|SamsungBrowser)\/(\d+)/, /(Edg)\/(\d+)/, /(Chrome)\/(\d+)/, /(?=.*Safari)(Version)\/(\d+(?:\.\d+)?)/];
  const found = patterns.map((each) => each.exec(agent)).find(Boolean);
  if (!found) return null;
  return `${NAMES[found[1]] ?? found[1]} ${found[2]}`;
}
