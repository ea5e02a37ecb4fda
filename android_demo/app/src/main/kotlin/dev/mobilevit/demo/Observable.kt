package dev.mobilevit.demo

/**
 * A value that screens show: an observer is told it at once and at each change. Main thread only.
 */
class Observable<T>(initial: T) {
    private val observers = LinkedHashSet<(T) -> Unit>()

    var value: T = initial
        set(new) {
            field = new
            observers.toList().forEach { it(new) }
        }

    /** Until the result is closed. */
    fun observe(observer: (T) -> Unit): AutoCloseable {
        observers += observer
        observer(value)
        return AutoCloseable { observers -= observer }
    }
}
