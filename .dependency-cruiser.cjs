/**
 * The rooms of docs' architecture, top to bottom: imports go down only. Rooms that share a line may
 * not import one another. A room is a folder of src/, or the one file of that name.
 */
const levels = [
  ['main'],
  ['app'],
  ['http', 'cli'],
  ['config'], // who may import it is narrower still: see 'config-is-handed-down'
  ['rest'],
  ['schema'],
  ['auth'],
  ['provisioning'],
  ['jobs', 'progress'],
  ['control'],
  ['postgres', 'crypto'],
  ['errors'],
];

const inside = (rooms) => `^src/(${rooms.join('|')})(/|\\.ts$)`;

const order = levels.flatMap((level, depth) =>
  level.flatMap((room) => {
    const above = levels.slice(0, depth + 1).flat();
    const closed = above.filter((other) => other !== room);
    if (closed.length === 0) return [];
    return {
      name: `${room}-imports-down-only`,
      comment: `The order is ${levels.map((rooms) => rooms.join(' + ')).join(' → ')}`,
      severity: 'error',
      from: { path: inside([room]) },
      to: { path: inside(closed) },
    };
  }),
);

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...order,
    {
      name: 'every-file-has-a-room',
      comment: 'A file or folder of src/ that stands in no level escapes the order.',
      severity: 'error',
      from: {},
      to: { path: '^src/', pathNot: inside(levels.flat()) },
    },
    {
      name: 'every-file-has-a-room-too',
      comment: 'The same for a file that imports and is not imported.',
      severity: 'error',
      from: { path: '^src/', pathNot: inside(levels.flat()) },
      to: {},
    },
    {
      name: 'config-is-handed-down',
      comment: 'main and the CLI read the settings; everything else is handed values.',
      severity: 'error',
      from: {
        pathNot: '^(src/(main|app|config)\\.ts$|src/(app|cli|config)/|knexfile\\.ts$|test/)',
      },
      to: { path: inside(['config']) },
    },
    {
      name: 'app-knows-the-type-of-config-only',
      comment: 'app is handed a configuration (tests hand it another); it reads none.',
      severity: 'error',
      from: { path: inside(['app']) },
      to: { path: inside(['config']), dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-circular',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      severity: 'error',
      from: { orphan: true, path: '^src/' },
      to: {},
    },
    {
      name: 'src-stands-alone',
      comment: 'The product runs without its tests and measurements.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench)/' },
    },
    {
      name: 'no-dev-dependencies-in-src',
      comment: 'They are not there in production. Types alone (@types/…) are erased.',
      severity: 'error',
      from: { path: '^(src|migrations|tenant-migrations|knexfile\\.ts$)' },
      to: { dependencyTypes: ['npm-dev'], pathNot: 'node_modules/@types/' },
    },
    {
      name: 'dependencies-are-declared',
      comment: 'What is not in package.json is there by accident.',
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'not-to-unresolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // Type-only imports count: a room that knows another's types knows the other room.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.js', '.cjs', '.mjs', '.json', '.d.ts'],
      mainFields: ['module', 'main', 'types'],
    },
  },
};
