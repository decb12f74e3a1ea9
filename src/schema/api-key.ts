import type { ApiKey as ApiKeyRow } from '../control/api-keys.ts';
import { builder } from './builder.ts';

export const ApiKey = builder.objectRef<ApiKeyRow>('ApiKey').implement({
  description: 'An API key of a tenant, without the secret part: that was shown once.',
  fields: (t) => ({
    id: t.exposeID('id', { nullable: false, description: 'UUID.' }),
    prefix: t.exposeString('prefix', { nullable: false, description: 'Its readable beginning.' }),
    createdAt: t.expose('createdAt', {
      type: 'DateTime',
      nullable: false,
      description: 'When it was made.',
    }),
    lastUsedAt: t.expose('lastUsedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it was last used.',
    }),
    expiresAt: t.expose('expiresAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it stops working.',
    }),
    revokedAt: t.expose('revokedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it was revoked.',
    }),
  }),
});
