import { z } from 'zod';
import { wireCodes } from './errors.ts';

const detail = z
  .object({ detail: z.string().meta({ description: 'For people.' }) })
  .meta({ id: 'Detail', description: 'A problem as contract A tells it.' });

const validationDetail = z
  .object({
    detail: z.array(
      z.object({
        type: z.string().meta({ description: 'Kind of the broken rule, such as `missing`.' }),
        loc: z
          .array(z.union([z.string(), z.int()]))
          .meta({ description: 'Where: `body`, then the path to the field.' }),
        msg: z.string().meta({ description: 'For people.' }),
      }),
    ),
  })
  .meta({
    id: 'ValidationDetail',
    description: 'All broken rules at once, as contract A does it.',
  });

const error = z
  .object({
    error: z.object({
      code: z.enum(wireCodes()).meta({ description: 'For programs.' }),
      message: z.string().meta({ description: 'For people.' }),
      details: z
        .array(z.object({ field: z.string(), message: z.string() }))
        .optional()
        .meta({ description: 'All broken rules at once.' }),
    }),
  })
  .meta({ id: 'Error', description: 'A problem as all contracts but A tell it.' });

/** What `detailForm` makes. */
export function detailBody(status: number): z.ZodType {
  return status === 422 ? validationDetail : detail;
}

/** What `codeForm` makes. */
export function codeBody(): z.ZodType {
  return error;
}
