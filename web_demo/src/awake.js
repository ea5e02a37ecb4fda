/** Do `work` while the screen stays on, where the browser lets a page ask: a phone that sleeps computes nothing. */
export async function awake(work) {
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  try {
    return await work();
  } finally {
    lock?.release().catch(() => {});
  }
}
