import { defineConfig } from 'vite';

// The page travels inside the Python package, so the output goes there and every address is relative.
export default defineConfig({
  base: './',
  build: { outDir: '../src/greenroom/web', emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 800 },
  server: { proxy: { '/api': 'http://localhost:7880' } },
});
