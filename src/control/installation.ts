import { controlSchema, type Control } from './database.ts';

/** Id of this control plane, the same for all its instances: part of the markers of what it makes. */
export async function installationId(control: Control): Promise<string> {
  const row = (await control.withSchema(controlSchema).from('installation').first('id')) as
    { id: string } | undefined;
  if (row === undefined) throw new Error('the control plane has no installation id');
  return row.id;
}
