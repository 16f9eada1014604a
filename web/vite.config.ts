import { defineConfig } from 'vite';

// The page travels inside the Python package, so the output goes there and every address is relative.
export default defineConfig({
  base: './',
  build: { outDir: '../src/greenroom/web', emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 800 },
  // The server gives tokens to its own page only, which this one stands in for.
  server: {
    proxy: {
      '/api': {
        target: 'http://localhost:7880',
        changeOrigin: true,
        headers: { origin: 'http://localhost:7880' },
      },
    },
  },
});
