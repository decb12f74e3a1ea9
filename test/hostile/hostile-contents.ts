/** What a tenant can put into its schema so that dropping it is hard. */
export interface HostileContent {
  readonly what: string;
  /** Statements, each a transaction of its own or several; `n` is how many objects of a kind. */
  readonly sql: (n: number) => readonly string[];
  /** Times `n`, where fewer would prove nothing, or more would take too long. */
  readonly times?: number;
  /** One of those that are tried on the way of a whole undo, too. */
  readonly hardest?: true;
}

/** Repeats a statement for `i` from 1 to n; `$i` in it is the number, and it commits now and then. */
const repeat = (n: number, ...statements: string[]): string => `
  DO $do$ BEGIN
    FOR i IN 1..${n} LOOP
      ${statements.map((sql) => `EXECUTE replace($sql$${sql}$sql$, '$i', i::text);`).join('\n')}
      IF i % 20 = 0 THEN COMMIT; END IF;
    END LOOP;
  END $do$`;

/** One of every kind that a tenant may create, names that need quotes included. */
const everyKind = [
  `CREATE TYPE "we""ird. type
x" AS (a int, "b c" text)`,
  `CREATE TYPE "\u001b[31mred" AS ENUM ('a', 'b')`,
  `CREATE TYPE "räng€" AS RANGE (subtype = float8, multirange_type_name = "multi räng€")`,
  `CREATE DOMAIN "dom.ain" AS "we""ird. type
x" CONSTRAINT "c h" CHECK (VALUE IS NOT NULL)`,
  `CREATE FUNCTION over() RETURNS int RETURN 1`,
  `CREATE FUNCTION over(int) RETURNS int RETURN 1`,
  `CREATE FUNCTION over("we""ird. type
x", VARIADIC "a;b" int[]) RETURNS int LANGUAGE sql AS 'SELECT 1'`,
  `CREATE FUNCTION over(OUT a int, OUT b int, INOUT c text) LANGUAGE sql AS 'SELECT 1, 2, ''x'''`,
  `CREATE FUNCTION "-- over"(a int) RETURNS TABLE (x int) LANGUAGE sql AS 'SELECT 1'`,
  `CREATE PROCEDURE proc(a int, b text) LANGUAGE sql AS 'SELECT 1'`,
  `CREATE PROCEDURE proc(a int, OUT b int) LANGUAGE sql AS 'SELECT 1'`,
  `CREATE PROCEDURE proc(OUT a int, OUT b text) LANGUAGE sql AS 'SELECT 1, ''x'''`,
  `CREATE PROCEDURE proc(INOUT "in" int, VARIADIC "out" int[]) LANGUAGE sql AS 'SELECT 1'`,
  `CREATE AGGREGATE agg(*) (sfunc = int8inc, stype = int8, initcond = '0')`,
  `CREATE AGGREGATE agg(int) (sfunc = int4pl, stype = int4)`,
  `CREATE AGGREGATE agg(VARIADIC "x y" int[]) (sfunc = array_cat, stype = int[])`,
  `CREATE FUNCTION step(int, float8) RETURNS int LANGUAGE sql AS 'SELECT 1'`,
  `CREATE FUNCTION final(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1'`,
  `CREATE AGGREGATE agg("x" int ORDER BY "y" float8) (sfunc = step, stype = int, finalfunc = final)`,
  `CREATE OPERATOR === (function = int4eq, leftarg = int, rightarg = int)`,
  `CREATE OPERATOR !!! (function = int4um, rightarg = int)`,
  `CREATE FUNCTION convert("dom.ain") RETURNS text LANGUAGE sql AS 'SELECT ''x'''`,
  `CREATE FUNCTION as_text("we""ird. type
x") RETURNS text LANGUAGE sql AS 'SELECT ''x'''`,
  `CREATE CAST ("we""ird. type
x" AS text) WITH FUNCTION as_text("we""ird. type
x") AS ASSIGNMENT`,
  `CREATE CAST ("\u001b[31mred" AS "räng€") WITH INOUT`,
  `CREATE CONVERSION "con.v" FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8`,
  `CREATE COLLATION "col l" (locale = 'C')`,
  `CREATE TEXT SEARCH DICTIONARY "di ct" (TEMPLATE = simple)`,
  `CREATE TEXT SEARCH CONFIGURATION "con f" (COPY = pg_catalog.simple)`,
  `ALTER TEXT SEARCH CONFIGURATION "con f" ALTER MAPPING FOR word WITH "di ct"`,
  `CREATE TABLE "t.1" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, d "dom.ain",
     s serial, e "\u001b[31mred"[], g int GENERATED ALWAYS AS (s + 1) STORED, t text COLLATE "col l")`,
  `CREATE UNLOGGED TABLE "un""logged" (LIKE "t.1" INCLUDING ALL)`,
  `CREATE INDEX "i x" ON "t.1" (lower(t)) WHERE s > 0`,
  `CREATE STATISTICS "st at" (dependencies) ON s, g FROM "t.1"`,
  `CREATE VIEW "v w" AS SELECT * FROM "t.1"`,
  `CREATE RULE "r u" AS ON INSERT TO "v w" DO INSTEAD NOTHING`,
  `CREATE MATERIALIZED VIEW "m v" AS SELECT over(1) AS a, agg(s) FROM "t.1"`,
  `CREATE RECURSIVE VIEW "rec" (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM rec WHERE n < 3`,
  `CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`,
  `CREATE TRIGGER "tr g" BEFORE INSERT ON "t.1" FOR EACH ROW EXECUTE FUNCTION fire()`,
  `CREATE CONSTRAINT TRIGGER "con tr" AFTER INSERT ON "t.1" FOR EACH ROW EXECUTE FUNCTION fire()`,
  `ALTER TABLE "t.1" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`,
  `CREATE POLICY "po l" ON "t.1" USING (over() = 1)`,
  `CREATE SEQUENCE "se q" OWNED BY "t.1".s`,
  `COMMENT ON TABLE "t.1" IS 'x'`,
  `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`,
  `SELECT lo_create(0), lo_from_bytea(0, 'x')`,
];

/** Two functions that report whoever else than the tenant runs them, where the server might. */
const traps = [
  `CREATE FUNCTION trap(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
     IF current_user::text !~ '^(own|usr)_' THEN PERFORM nextval('public.sprung'); END IF;
     RETURN $1; END $$`,
  `CREATE FUNCTION trapped(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
     IF current_user::text !~ '^(own|usr)_' THEN PERFORM nextval('public.sprung'); END IF;
     RETURN true; END $$`,
];

export const hostileContents: readonly HostileContent[] = [
  { what: 'one of every kind, with odd names', hardest: true, sql: () => everyKind },
  {
    what: 'large objects of the owner role and of the login',
    hardest: true,
    times: 40,
    sql: (n) => [
      `SELECT lo_create(0) FROM generate_series(1, ${n})`,
      `SET ROLE NONE`,
      `SELECT lo_from_bytea(0, 'x') FROM generate_series(1, 300)`,
      `CREATE TABLE by_login ()`,
      `CREATE TEMPORARY TABLE passing ()`,
    ],
  },
  {
    what: 'a parent that older tables inherit from',
    hardest: true,
    times: 3,
    sql: (n) => [
      repeat(n, 'CREATE TABLE c$i (a text)'),
      'CREATE TABLE parent (a text)',
      repeat(n, 'ALTER TABLE c$i INHERIT parent'),
    ],
  },
  {
    what: 'a long chain of inheritance, the newest on top',
    times: 0.3,
    sql: (n) => [
      repeat(n, 'CREATE TABLE c$i (a text)'),
      `DO $$ BEGIN FOR i IN 2..${n} LOOP
         EXECUTE format('ALTER TABLE c%s INHERIT c%s', i - 1, i); COMMIT; END LOOP; END $$`,
    ],
  },
  {
    what: 'older views over one table, and a view over all of them',
    sql: (n) => [
      repeat(n, 'CREATE VIEW v$i AS SELECT 1 AS a'),
      `DO $$ BEGIN EXECUTE 'CREATE VIEW overall AS ' || (SELECT string_agg('SELECT a FROM v' || i, ' UNION ALL ')
         FROM generate_series(1, ${Math.min(n, 200)}) i); END $$`,
      'CREATE TABLE base (a int)',
      repeat(n, 'CREATE OR REPLACE VIEW v$i AS SELECT a FROM base'),
    ],
  },
  {
    what: 'tables that refer to a newer one, and to each other in a circle',
    sql: (n) => [
      repeat(n, 'CREATE TABLE t$i (id int PRIMARY KEY, up int, hub int)'),
      'CREATE TABLE hub (id int PRIMARY KEY)',
      repeat(n, 'ALTER TABLE t$i ADD FOREIGN KEY (hub) REFERENCES hub'),
      `DO $$ BEGIN FOR i IN 1..${n} LOOP
         EXECUTE format('ALTER TABLE t%s ADD FOREIGN KEY (up) REFERENCES t%s', i, i % ${n} + 1);
         COMMIT; END LOOP; END $$`,
    ],
  },
  {
    what: 'a newer domain in a column of each table',
    sql: (n) => [
      repeat(n, 'CREATE TABLE t$i ()'),
      'CREATE DOMAIN d AS int',
      repeat(n, 'ALTER TABLE t$i ADD COLUMN d d'),
    ],
  },
  {
    what: 'a function in the defaults and checks of older tables, which needs one of them itself',
    sql: (n) => [
      repeat(n, 'CREATE TABLE t$i (a int, b int)'),
      'CREATE FUNCTION f(t1) RETURNS int IMMUTABLE LANGUAGE sql AS $$SELECT 1$$',
      repeat(n, 'ALTER TABLE t$i ALTER COLUMN a SET DEFAULT f(NULL), ADD CHECK (f(NULL) = 1)'),
    ],
  },
  {
    what: 'tables and functions that need each other in one circle',
    times: 0.5,
    sql: (n) => [
      repeat(n, 'CREATE TABLE t$i (a int)'),
      repeat(n, 'CREATE FUNCTION f$i(t$i) RETURNS int IMMUTABLE LANGUAGE sql AS $$SELECT 1$$'),
      `DO $$ BEGIN FOR i IN 1..${n} LOOP
         EXECUTE format('ALTER TABLE t%s ALTER COLUMN a SET DEFAULT f%s(NULL)', i, i % ${n} + 1);
         COMMIT; END LOOP; END $$`,
    ],
  },
  {
    what: 'one table with too many parts',
    times: 0.5,
    sql: (n) => [
      'CREATE TABLE t (a int, b int)',
      `CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`,
      repeat(
        n,
        'CREATE TRIGGER g$i BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire()',
        'ALTER TABLE t ADD CHECK (a > $i)',
        'CREATE SEQUENCE q$i OWNED BY t.a',
        'CREATE POLICY p$i ON t USING (a > $i)',
        'CREATE RULE r$i AS ON INSERT TO t WHERE new.a > $i DO INSTEAD NOTHING',
      ),
      repeat(Math.ceil(n / 4), 'CREATE INDEX i$i ON t (a) WHERE b > $i'),
    ],
  },
  {
    what: 'a tree of partitions that is referred to',
    times: 0.3,
    sql: (n) => [
      'CREATE TABLE p (id int, k text, PRIMARY KEY (id)) PARTITION BY RANGE (id)',
      repeat(n, 'CREATE TABLE p$i PARTITION OF p FOR VALUES FROM ($i) TO ($i + 1)'),
      `CREATE TABLE sub PARTITION OF p FOR VALUES FROM (-100) TO (0) PARTITION BY HASH (id)`,
      repeat(
        10,
        'CREATE TABLE sub$i PARTITION OF sub FOR VALUES WITH (MODULUS 10, REMAINDER $i - 1)',
      )
        .replaceAll('$i - 1', '$j')
        .replace("'$i', i::text)", "'$i', i::text), '$j', (i - 1)::text)")
        .replace('EXECUTE replace(', 'EXECUTE replace(replace('),
      'CREATE TABLE d PARTITION OF p DEFAULT',
      'CREATE INDEX ON p (k)',
      'CREATE TABLE r (p int REFERENCES p, PRIMARY KEY (p)) PARTITION BY LIST (p)',
      'CREATE TABLE r1 PARTITION OF r DEFAULT',
    ],
  },
  {
    what: 'traps wherever the server evaluates something',
    hardest: true,
    sql: () =>
      [
        ...traps,
        'CREATE TABLE t (a int DEFAULT trap(1), b int GENERATED ALWAYS AS (trap(2)) STORED, CHECK (trapped(3)))',
        'CREATE INDEX ON t ((a + trap(4))) WHERE trapped(5)',
        'CREATE STATISTICS s ON (a + trap(6)), b FROM t',
        'CREATE DOMAIN d AS int DEFAULT trap(7) CHECK (trapped(8))',
        'CREATE VIEW v AS SELECT trap(9) AS x FROM t',
        'CREATE MATERIALIZED VIEW m AS SELECT trap(10) AS x',
        'ALTER TABLE t ENABLE ROW LEVEL SECURITY',
        'CREATE POLICY p ON t USING (trapped(11))',
        'CREATE RULE r AS ON UPDATE TO t WHERE trapped(12) DO INSTEAD NOTHING',
        `CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM trap(13); RETURN NULL; END'`,
        'CREATE TRIGGER g AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON t EXECUTE FUNCTION fire()',
        'CREATE TABLE pt (a int, b int, UNIQUE (a)) PARTITION BY RANGE (a)',
        'CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (9)',
        'CREATE TABLE rt (a int REFERENCES pt (a))',
        'CREATE TABLE pe (a int, b int DEFAULT trap(14)) PARTITION BY LIST ((a + trap(14)))',
        'CREATE TABLE pe1 PARTITION OF pe FOR VALUES IN (1) PARTITION BY RANGE ((a + trap(14)), b)',
        'CREATE TABLE pe2 PARTITION OF pe DEFAULT',
        'CREATE TABLE pe3 PARTITION OF pe1 FOR VALUES FROM (0, 0) TO (9, 9)',
        'CREATE INDEX ON pe ((a + trap(14)))',
        'CREATE TYPE c AS (a int)',
        'CREATE FUNCTION as_int(c) RETURNS int LANGUAGE sql AS $$SELECT trap(15)$$',
        'CREATE CAST (c AS int) WITH FUNCTION as_int(c) AS IMPLICIT',
        'CREATE OPERATOR = (function = trapped2, leftarg = c, rightarg = c)',
      ].flatMap((sql) =>
        sql.startsWith('CREATE OPERATOR')
          ? [
              'CREATE FUNCTION trapped2(c, c) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$SELECT trapped(16)$$',
              sql,
            ]
          : [sql],
      ),
  },
];
