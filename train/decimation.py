"""Meshes with fewer vertices: edges are collapsed by the error that this makes, in several poses at once."""

from __future__ import annotations

import heapq

import numpy as np

EVENNESS = 5e-4  # times an edge's length to the fourth power: flat skin is thinned evenly
MIN_TURN = 0.2  # cosine of the most that a collapse may turn a triangle
MIN_ROUNDNESS = 0.12  # 1 is equilateral; thinner triangles are not made


def area_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(..., V, 3), (F, 3) -> (..., F, 3), as long as the triangles are large, twice."""
    a, b, c = (vertices[..., corner, :] for corner in triangles.T)
    return np.cross(b - a, c - a)


class Mesh:
    """Triangles that lose vertices one by one. No vertex moves: one is collapsed onto a neighbour.

    ``poses`` (P, V, 3) are the same vertices in P poses, in cm; ``weight`` (V,) says how much an error at a vertex
    counts. The error of a collapse is the squared distance from the planes of all triangles that went into a vertex
    (quadrics after Garland and Heckbert), times their area, summed over the poses.
    """

    def __init__(self, poses: np.ndarray, triangles: np.ndarray, weight: np.ndarray) -> None:
        self.poses = poses.astype(np.float64)
        self.corners = [tuple(int(v) for v in triangle) for triangle in triangles]
        self.around: list[set[int]] = [set() for _ in range(self.poses.shape[1])]  # vertex -> its triangles
        for number, triangle in enumerate(self.corners):
            for vertex in triangle:
                self.around[vertex].add(number)
        self.homogeneous = np.concatenate([self.poses, np.ones_like(self.poses[..., :1])], axis=-1).swapaxes(0, 1)
        self.quadrics = self._quadrics(triangles, weight)  # (V, P, 4, 4)
        self.weight = weight

    def _quadrics(self, triangles: np.ndarray, weight: np.ndarray) -> np.ndarray:
        normals = area_normals(self.poses, triangles)
        area = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = normals / np.maximum(area, 1e-12)
        offset = -(normals * self.poses[:, triangles[:, 0]]).sum(axis=-1, keepdims=True)
        planes = np.concatenate([normals, offset], axis=-1) * np.sqrt(area / 2)
        products = (planes[..., :, None] * planes[..., None, :]).swapaxes(0, 1)  # (F, P, 4, 4)
        result = np.zeros((self.poses.shape[1], *products.shape[1:]))
        for corner in triangles.T:
            np.add.at(result, corner, products * weight[corner, None, None, None] / 3)
        return result

    def triangles(self) -> np.ndarray:
        """(F, 3) int32: those that are left."""
        left = sorted({number for numbers in self.around for number in numbers})
        return np.array([self.corners[number] for number in left], np.int32).reshape(-1, 3)

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share an edge with ``vertex``."""
        return {corner for number in self.around[vertex] for corner in self.corners[number]} - {vertex}

    def boundary(self) -> np.ndarray:
        """(V,) bool: ends of edges that belong to one triangle only."""
        result = np.zeros(len(self.around), bool)
        for vertex in range(len(self.around)):
            for other in self.neighbours(vertex):
                if len(self.around[vertex] & self.around[other]) == 1:
                    result[[vertex, other]] = True
        return result

    def cost(self, vertex: int, target: int) -> float:
        """What collapsing ``vertex`` onto ``target`` would do to the shape."""
        at = self.homogeneous[target]
        error = np.einsum("pi,pij,pj->", at, self.quadrics[vertex] + self.quadrics[target], at)
        length = ((self.poses[0, vertex] - self.poses[0, target]) ** 2).sum()
        return float(error + EVENNESS * self.weight[vertex] * length**2)

    def may_collapse(self, vertex: int, target: int) -> bool:
        """Whether the mesh stays a surface (the link condition) and no triangle flips or becomes a splinter."""
        shared = self.around[vertex] & self.around[target]
        if len(shared) != 2 or len(self.neighbours(vertex) & self.neighbours(target)) != 2:
            return False
        staying = sorted(self.around[vertex] - shared)
        before = np.array([self.corners[number] for number in staying])
        if len(before) == 0:
            return False
        after = np.where(before == vertex, target, before)
        taken = {frozenset(self.corners[number]) for number in self.around[target] - shared}
        if any(frozenset(triangle) in taken for triangle in after.tolist()):
            return False
        old, new = area_normals(self.poses, before), area_normals(self.poses, after)
        lengths = np.linalg.norm(old, axis=-1) * np.linalg.norm(new, axis=-1)
        if ((old * new).sum(axis=-1) <= MIN_TURN * lengths).any():
            return False
        return bool(self._roundness(after).min() >= min(MIN_ROUNDNESS, self._roundness(before).min()))

    def _roundness(self, triangles: np.ndarray) -> np.ndarray:
        points = self.poses[0, triangles]
        edges = ((points - np.roll(points, 1, axis=1)) ** 2).sum(axis=(1, 2))
        area = np.linalg.norm(area_normals(self.poses[0], triangles), axis=-1) / 2
        return 4 * np.sqrt(3) * area / np.maximum(edges, 1e-12)

    def collapse(self, vertex: int, target: int) -> None:
        """Every triangle of ``vertex`` becomes one of ``target``; the two between them are gone."""
        for number in self.around[vertex] & self.around[target]:
            for corner in self.corners[number]:
                self.around[corner].discard(number)
        for number in self.around[vertex]:
            self.corners[number] = tuple(target if corner == vertex else corner for corner in self.corners[number])
            self.around[target].add(number)
        self.around[vertex] = set()
        self.quadrics[target] += self.quadrics[vertex]


def reduce_mesh(mesh: Mesh, part: np.ndarray, targets: np.ndarray, locked: np.ndarray, mirror: np.ndarray) -> None:
    """Collapse the least important vertices until each part k has at most ``targets[k]`` of them, or cannot.

    ``part`` (V,) says to which each belongs; vertices stay within their part. ``locked`` (V,) bool stay. A vertex and
    its mirror image (``mirror`` (V,)) go together, so that a symmetric head stays symmetric.
    """
    drawn = np.array([bool(numbers) for numbers in mesh.around])
    count = np.bincount(part[drawn], minlength=len(targets))
    paired = mirror[mirror] == np.arange(len(mirror))
    version = [0] * len(mirror)
    heap: list[tuple[float, int, int, int, int]] = []

    def offer(vertex: int, target: int) -> None:
        if not locked[vertex] and part[vertex] == part[target] and count[part[vertex]] > targets[part[vertex]]:
            entry = (mesh.cost(vertex, target), vertex, target, version[vertex], version[target])
            heapq.heappush(heap, entry)

    def collapse(vertex: int, target: int) -> None:
        mesh.collapse(vertex, target)
        count[part[vertex]] -= 1
        version[target] += 1
        version[vertex] += 1
        for other in mesh.neighbours(target):
            offer(target, other)
            offer(other, target)

    for _ in range(6):  # what was refused may be possible after its neighbours went
        before = count.sum()
        for vertex in np.flatnonzero(drawn & ~locked).tolist():
            for target in mesh.neighbours(vertex):
                offer(vertex, target)
        while heap:
            _, vertex, target, *versions = heapq.heappop(heap)
            if versions != [version[vertex], version[target]] or count[part[vertex]] <= targets[part[vertex]]:
                continue
            pairs = _with_mirror_image(vertex, target, mirror, paired)
            if all(not locked[v] and t in mesh.neighbours(v) and mesh.may_collapse(v, t) for v, t in pairs):
                for v, t in pairs:
                    if mesh.may_collapse(v, t):  # the first may have come in the way of the second
                        collapse(v, t)
        if count.sum() == before:
            break


def _with_mirror_image(vertex: int, target: int, mirror: np.ndarray, paired: np.ndarray) -> list[tuple[int, int]]:
    """The collapses that must be done together; one that would cross the middle comes out as impossible."""
    other, onto = int(mirror[vertex]), int(mirror[target])
    if not (paired[vertex] and paired[target]):
        return [(vertex, target)]
    if other == vertex:  # on the middle: it stays there
        return [(vertex, target)] if onto == target else [(vertex, vertex)]
    if other == target:
        return [(vertex, vertex)]
    return [(vertex, target), (other, onto)]
