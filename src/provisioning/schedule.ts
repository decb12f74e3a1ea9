import { z } from 'zod';

const daysAhead = 366;
// Clocks differ, and a request takes its time: what was meant as `now` is not refused.
const toleranceMs = 60_000;

/** Rules of `provisionAt`: not before now, and not too far away. */
export function provisionTime() {
  return z.date('provisionAt must be a moment').check((context) => {
    const ahead = context.value.getTime() - Date.now();
    const message =
      ahead < -toleranceMs
        ? 'provisionAt must not lie in the past'
        : ahead > daysAhead * 86_400_000
          ? `provisionAt must be at most ${daysAhead} days ahead`
          : null;
    if (message !== null) context.issues.push({ code: 'custom', message, input: context.value });
  });
}

/** Whole seconds from now until then; 0: now, or it has passed. */
export function secondsUntil(moment: Date | undefined): number {
  if (moment === undefined) return 0;
  return Math.max(0, Math.ceil((moment.getTime() - Date.now()) / 1000));
}
