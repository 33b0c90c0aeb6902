export { apiVersion, buildOpenapi } from './openapi.ts';
export { type Route, type RouteAuth, type RouteName, routes } from './routes.ts';
export * from './schemas.ts';
