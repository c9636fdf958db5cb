// The one thing of Vite that tests use: the text of files, since workerd has no file system.
interface ImportMeta {
  glob(pattern: string, options: { query: '?raw'; import: 'default'; eager: true }): Record<string, string>;
}
