/** Holds a loop between its steps. */
export interface Gate {
  pause(): void;
  /** Lets the loop run on. */
  resume(): void;
  /** Lets one more step through while held. */
  step(): void;
  /** Settles when the next step may begin; `onHeld` is called if that is not now. */
  pass(onHeld: () => void): Promise<void>;
}

export function createGate(held: boolean): Gate {
  let allowed = 0; // steps that may pass while held
  let wake = (): void => {};
  return {
    pause() {
      held = true;
      allowed = 0;
    },
    resume() {
      held = false;
      wake();
    },
    step() {
      allowed++;
      wake();
    },
    async pass(onHeld) {
      if (held && allowed === 0) onHeld();
      while (held && allowed === 0) await new Promise<void>((resolve) => wake = resolve);
      if (held) allowed--;
    },
  };
}
