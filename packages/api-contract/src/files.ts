import { fileLimits } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { component } from './component.ts';
import { exampleEntry } from './examples.ts';
import { closed, nullable, path, user } from './fields.ts';
import type { RouteTable } from './route.ts';
import { guestCall } from './sandbox-route.ts';

export const FilePath = component('FilePath', Type.Object({ path, user }, closed));
export type FilePath = Static<typeof FilePath>;

export const ListFiles = component(
  'ListFiles',
  Type.Object(
    {
      path,
      user,
      depth: Type.Optional(Type.Integer({ minimum: 1, maximum: fileLimits.maxListDepth, default: 1 })),
      limit: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: fileLimits.maxListEntries,
          default: fileLimits.maxListEntries,
          description: 'Most entries of a page; one with long names has fewer.',
        }),
      ),
      cursor: Type.Optional(
        Type.String({ maxLength: fileLimits.maxListCursorBytes, description: '`next_cursor` of the page before.' }),
      ),
    },
    closed,
  ),
);
export type ListFiles = Static<typeof ListFiles>;

export const FileEntry = component(
  'FileEntry',
  Type.Object({
    name: Type.String(),
    path: Type.String(),
    type: Type.Enum(['file', 'directory', 'symlink', 'unknown']),
    size: Type.Integer(),
    mode: Type.Integer(),
    permissions: Type.String(),
    owner: Type.String(),
    group: Type.String(),
    modified_at: Type.Integer({ description: 'Unix seconds.' }),
    symlink_target: nullable(Type.String()),
  }),
);
export type FileEntry = Static<typeof FileEntry>;

export const FileEntries = component(
  'FileEntries',
  Type.Object({
    entries: Type.Array(FileEntry, {
      description:
        'Directories before what is in them, names in the order of their UTF-16 code units. What comes or goes while pages are read may be in none or two.',
    }),
    next_cursor: nullable(Type.String({ description: 'Of the page that follows; null when this is the last.' })),
  }),
);
export const FileEntryReply = component('FileEntryReply', Type.Object({ entry: FileEntry }));

export const FileUploadQuery = Type.Object({
  path: Type.Optional(
    Type.String({
      description: 'Instead of the part `path`, for names with line ends: form data does not keep those.',
    }),
  ),
});

export const FileUpload = component(
  'FileUpload',
  Type.Object({
    path: Type.Optional(Type.String({ description: 'Must come before `file`. Required unless it is in the query.' })),
    user: Type.Optional(Type.String()),
    file: Type.String({
      format: 'binary',
      description: `The last part, of at most ${fileLimits.maxUploadBytes} bytes (${fileLimits.maxUploadBytes / 1024 / 1024} MiB): more is \`payload_too_large\`. The file that was there is replaced once all has arrived, and else stays.`,
    }),
  }),
);

const tag = 'data';

/** The files of a running sandbox, with the rights of the user who is named: the sandbox's default user else. */
export const fileRoutes = {
  writeFile: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/write',
    summary: 'Upload a file',
    query: FileUploadQuery,
    body: FileUpload,
    bodyType: 'multipart/form-data',
    replies: { 204: null },
  },
  readFile: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/read',
    summary: 'Download a file',
    body: FilePath,
    example: { request: { path: '/home/user/hello.txt' } },
    replies: { 200: 'application/octet-stream' },
  },
  listFiles: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/list',
    summary: 'List a directory',
    body: ListFiles,
    example: { request: { path: '/home/user' }, reply: { entries: [exampleEntry], next_cursor: null } },
    replies: { 200: FileEntries },
  },
  makeDirectory: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/mkdir',
    summary: 'Make a directory and its parents',
    body: FilePath,
    replies: { 200: FileEntryReply },
  },
  removePath: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/files/remove',
    summary: 'Remove a file or a directory with all in it',
    body: FilePath,
    replies: { 204: null },
  },
} as const satisfies RouteTable;
